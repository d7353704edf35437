"""The CA: RFC 8555, from the signed request up to the certificate."""

import sys

# httpx loads its own command line, with rich and pygments, wherever these are installed. Not to be
# found is what it is ready for, and saves a third of what it costs to talk to a CA at all.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # None: cannot be imported
