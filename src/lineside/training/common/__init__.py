"""What the learners of several tasks share: backbone, export, feature cache, numeric methods."""
