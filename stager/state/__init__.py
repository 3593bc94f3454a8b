"""The truth about jobs and fetches: one SQL database on a local disk of the main server."""
