-- Finds one job, live or finished.
SELECT {{live_columns}},
       attempts, NULL::text, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = jobs.id), NULL::text
FROM taskd.jobs WHERE id = %(id)s
UNION ALL
SELECT {{finished_columns}}, attempts,
       outcome, progress, traceback
FROM taskd.finished_jobs WHERE id = %(id)s
