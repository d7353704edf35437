"""Certificates for Apache from any ACME CA that wants External Account Binding, beside mod_md."""

__version__ = "0.1.0"
