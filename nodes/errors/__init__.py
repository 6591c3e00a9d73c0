"""The registry of errors: every kind of refusal and failure that users, programs and operators meet, by its code."""
