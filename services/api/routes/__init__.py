"""The routes under `/api`, one module for each thing people come for."""
