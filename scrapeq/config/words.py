"""Words of other tools, and what the same thing is called here."""

from __future__ import annotations

from collections.abc import Mapping

_CALLED: Mapping[str, tuple[str, ...]] = {
    "resources": ("streams", "sources", "tables", "spiders", "endpoints", "collections", "requests", "tasks"),
    "seeds": ("start_urls", "start_requests", "partitions", "inputs"),
    "outputs": (
        "output",
        "destination",
        "destinations",
        "sink",
        "sinks",
        "feeds",
        "export",
        "item_pipelines",
    ),
    "rate_limits": (
        "rate_limit",
        "ratelimit",
        "throttle",
        "throttling",
        "api_budget",
        "quotas",
        "download_delay",
    ),
    "client.base_url": ("url_base", "base_uri", "root_url", "api_url"),
    "client.auth": ("authentication", "authenticator", "authorization", "credentials"),
    "client": ("requester", "session", "http", "rest_api"),
    "response_actions": (
        "error_handler",
        "retry_policy",
        "on_error",
        "retries",
        "response_filters",
        "backoff",
    ),
    "resource_defaults": ("defaults", "default", "resource_default", "common_settings"),
    "paginator": ("pagination", "pager", "paging", "paginate"),
    "params": ("query", "query_params", "querystring", "query_string", "request_parameters", "qs"),
    "json": ("body", "request_body", "request_body_json", "payload"),
    "data_selector": (
        "record_selector",
        "field_path",
        "records_path",
        "extractor",
        "record_path",
        "items_path",
    ),
    "record_filter": ("filter", "where", "filters", "item_filter"),
    "primary_key": ("unique_key", "key_properties", "item_key", "id_field"),
    "parent": ("depends_on", "parent_stream", "partition_router", "parent_resource"),
    "method": ("http_method", "verb"),
    "max_body_size": ("download_maxsize", "max_size", "body_limit"),
    "timeout": ("download_timeout", "read_timeout", "request_timeout"),
    "workers": ("processes", "num_workers"),
    "concurrency": ("concurrent_requests", "max_concurrent", "parallelism"),
    "max_concurrency": ("concurrency_limit", "max_in_flight"),
    "interval": ("period", "per", "window"),
    "limit": ("max_requests", "calls", "requests_per_interval"),
    "token": ("api_token", "access_token", "bearer_token"),
    "max_pages": ("page_limit", "max_page_count"),
    "cursor_path": ("cursor_value", "next_cursor_path"),
    "include_from_parent": ("parent_fields", "extra_fields"),
}

# The word as somebody else calls it -> the word here.
FOREIGN: Mapping[str, str] = {word: here for here, words in _CALLED.items() for word in words}
