"""The command line: parse, call, print. Whatever decides or computes belongs to what is called.

app.py ties the commands together; train_command.py, use_commands.py and config_command.py hold them, options.py has
what they share. terminal.py, progress.py, bar.py, tables.py and advice.py print; failures.py turns exceptions into
sentences.
"""
