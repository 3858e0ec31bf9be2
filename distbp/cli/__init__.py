"""The command line: parse, call, print. Whatever decides or computes belongs to what is called.

app.py ties the commands together. The files *_command.py and *_commands.py hold them; options.py has what they share.
terminal.py, progress.py, bar.py, tables.py and *_view.py print; failures.py turns exceptions into sentences.
"""
