"""The target classifiers: networks trained here, plainly or to leak less, and classifiers of a user's own."""
