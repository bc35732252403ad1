"""The graph of notebooks and what it writes: pages, comparisons, the leaderboard."""

import sys

# jsonschema, which nbformat imports, would compile a grammar of internationalised addresses, for a check that no
# notebook asks for: two seconds in each process
sys.modules.setdefault("rfc3987_syntax", None)
