"""Who comes in, and how: the one door of SMTP, IMAP and POP3, its mechanisms and limits, tokens, roles, directories."""
