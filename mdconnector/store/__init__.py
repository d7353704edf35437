"""The tree on disk that we share with mod_md, and our own folder in it."""
