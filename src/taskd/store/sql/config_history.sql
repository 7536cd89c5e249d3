-- Lists versions of the live configuration, newest first; the page ends early with the version that fills the budget of bytes.
SELECT version, at, who, what, "values" FROM (
    SELECT *, sum(octet_length("values"::text)) OVER (ORDER BY version DESC) - octet_length("values"::text) AS bytes FROM (
        SELECT version, at, who, what, "values" FROM taskd.live_versions
        WHERE version < %(before)s ORDER BY version DESC LIMIT %(limit)s) page) measured
WHERE bytes < %(budget)s ORDER BY version DESC
