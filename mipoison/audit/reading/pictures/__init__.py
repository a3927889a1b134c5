"""Read folders of pictures, and bring images to what an audit can train on."""
