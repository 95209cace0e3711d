"""The console: the desk's pages for people, made with NiceGUI and served by the API's own process."""
