"""Programs of their own: each does what Systole does with the same rows, and prints one line of JSON.

They are run by the Python of target/bench/venv, so that their memory and their time are a process's own. Their clock
starts once the interpreter is up and everything is imported.
"""
