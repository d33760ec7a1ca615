"""The files of deploy/, read, validated, and as far as this machine allows started."""
