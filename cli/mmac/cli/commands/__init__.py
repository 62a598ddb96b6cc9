"""One module per command, imported when the command is asked for. What takes long to import, they import inside."""
