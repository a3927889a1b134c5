"""From a run's numbers to pages: HTML, Markdown, pictures, the leaderboard, and the choice of an operating point."""
