"""The command line: from argv to a task, and how the task ended."""

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130  # exit statuses
