"""What every worklist server needs of an entry, whichever it is: text in its characters, a study UID."""
