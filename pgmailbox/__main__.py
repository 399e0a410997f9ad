"""``python -m pgmailbox`` is the command ``pgmailbox``."""

from pgmailbox.cli import main

if __name__ == "__main__":
    main()
