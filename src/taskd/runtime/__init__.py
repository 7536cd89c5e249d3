"""What every taskd process needs: logs, signals, and patience with its servers."""
