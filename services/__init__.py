"""The four services of the desk, the library they share, and the launcher that runs them."""
