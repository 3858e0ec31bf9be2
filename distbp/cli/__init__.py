"""The command line: parse, call, print. Whatever decides or computes belongs to what is called.

app.py ties the commands together; train_command.py, use_commands.py and config_command.py hold them. terminal.py,
progress.py and tables.py print; failures.py turns exceptions into sentences.
"""
