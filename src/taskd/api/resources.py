"""The list of the API's resources: the one place where a new resource is added."""

from __future__ import annotations

from taskd.api.application import Api
from taskd.api.auth import Authenticator
from taskd.api.bulk import BulkResource
from taskd.api.cluster import ClusterResource
from taskd.api.config import ConfigResource
from taskd.api.docs_page import DocsResource
from taskd.api.explain import ExplainResource
from taskd.api.history import HistoryResource
from taskd.api.hosts import Hosts
from taskd.api.jobs import JobsResource
from taskd.api.logs import LogsResource
from taskd.api.openapi import build as build_document
from taskd.api.queues import QueueFigures, QueuesResource
from taskd.api.reads import ReadLimiter
from taskd.api.routes import Resource, routes_of
from taskd.api.schedules import SchedulesResource
from taskd.api.submits import SubmitResource
from taskd.domain.explain.situation import Timings
from taskd.seams import (
    Cancels,
    ConfigEditing,
    Coordinator,
    Explained,
    Intake,
    LogReader,
    Reads,
    Retries,
    Schedules,
    Standing,
    Terms,
    Tokens,
    Transport,
)
from taskd.settings import HttpSettings


def build(
    *,
    intake: Intake,
    cancels: Cancels,
    retries: Retries,
    reads: Reads,
    terms: Terms,
    coordinator: Coordinator,
    standing: Standing,
    editor: ConfigEditing,
    tokens: Tokens,
    schedules: Schedules,
    log_reader: LogReader,
    explained: Explained,
    transport: Transport,
    settings: HttpSettings,
    timings: Timings,
    allow_anonymous: bool,
) -> Api:
    """Return the API of one scheduler. `allow_anonymous`: while there are no tokens, every caller has every scope."""
    limiter = ReadLimiter()
    queues = QueueFigures(reads, coordinator)
    resources: list[Resource] = [
        SubmitResource(intake, reads, settings),
        BulkResource(cancels, retries, reads),
        JobsResource(cancels, retries, reads, limiter),
        LogsResource(reads, log_reader),
        ExplainResource(explained, terms, editor, coordinator, transport, standing, timings),
        ClusterResource(reads, queues, terms, coordinator, standing, timings.leader_stale),
        QueuesResource(queues),
        HistoryResource(reads, log_reader, limiter),
        SchedulesResource(schedules, settings, limiter),
        ConfigResource(editor),
    ]
    document = build_document(routes_of(resources))
    authenticator = Authenticator(
        tokens, allow_anonymous=allow_anonymous, rate=settings.rate_limit, hosts=Hosts(settings)
    )
    return Api(authenticator, [*resources, DocsResource(document)])
