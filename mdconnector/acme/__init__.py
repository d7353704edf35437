"""The CA: RFC 8555, from the signed request up to the certificate."""
