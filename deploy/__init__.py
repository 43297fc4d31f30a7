"""What a cluster needs: the chart, examples of its values, and both as plain YAML."""
