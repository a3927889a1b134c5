"""The findings of an audit: numbers, verdict, the lines that deploy a choice, a page and a JSON."""
