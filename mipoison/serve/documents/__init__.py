"""JSON documents of model servers: where the vectors are, and what may pass beside them."""
