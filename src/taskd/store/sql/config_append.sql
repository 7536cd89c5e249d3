-- Adds a version of the live configuration, if the one that it was made from is still the latest.
INSERT INTO taskd.live_versions (version, who, what, "values")
SELECT %(version)s, %(who)s, %(what)s, %(values)s::jsonb
WHERE %(version)s = (SELECT coalesce(max(version), 0) + 1 FROM taskd.live_versions)
ON CONFLICT (version) DO NOTHING
RETURNING version, at, who, what, "values"
