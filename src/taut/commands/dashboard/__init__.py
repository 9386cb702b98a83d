"""The W&B dashboard as code: a workspace over all runs of a project, and a report page on one sweep."""
