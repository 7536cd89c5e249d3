-- Finds the latest version of the live configuration.
SELECT version, at, who, what, "values" FROM taskd.live_versions ORDER BY version DESC LIMIT 1
