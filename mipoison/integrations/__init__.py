"""Thin files that connect the package with others; none is imported by `import mipoison`."""
