"""The command line: from argv to a task, and how the task ended."""
