"""Whether a new cluster does what it should: logs of its first tests against predictions, link by link."""
