"""Key names of other tools, and the key of scrapeq with the same meaning."""

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
    "cursor_path": ("cursor_value", "next_cursor_path", "cursor_field", "replication_key"),
    "next_url_path": ("next_url", "next_link_path", "next_page_path"),
    "maximum_page": ("max_page", "last_page"),
    "total_path": ("total_count_path", "total_pages_path"),
    "incremental": ("incremental_sync", "bookmark", "checkpoint", "incremental_config"),
    "initial_value": ("start_date", "start_datetime", "initial_state"),
    "lookback": ("lookback_window", "lookback_days", "overlap"),
    "access_token_url": ("token_url", "token_refresh_endpoint", "token_endpoint"),
    "decoder": ("response_format", "response_type", "parser"),
    "write_disposition": ("if_exists", "write_mode", "sync_mode", "overwrite"),
    "schedule": ("cron_schedule", "crontab", "recurrence"),
    "fields": ("columns", "mapping", "transformations"),
    "url": ("dsn", "connection_string", "database_url"),
    "path": ("filename", "file_path", "directory", "folder"),
    "cache": ("http_cache", "etag", "conditional_requests"),
    "handler": ("callback", "parse", "page_handler"),
    "on_item": ("process_item", "item_callback", "transformer"),
    "include_from_parent": ("parent_fields", "extra_fields"),
}

# Key of another tool -> key of scrapeq.
FOREIGN: Mapping[str, str] = {word: here for here, words in _CALLED.items() for word in words}

EXAMPLES: Mapping[str, str] = {
    "token_pool": 'auth: {type: bearer, tokens: "${env:TOKENS}"}, a list or separated by commas',
    "body_contains": "when: contains(text, 'secondary rate')",
    "body_matches": "when: regex(text, 'quota .* exceeded')",
    "error_message_contains": "when: contains(text, 'secondary rate')",
    "predicate": "when: contains(text, 'secondary rate')",
    "start_param": "offset_param or page_param names the parameter; base_page, or a value in params, is where it starts",
    "start_from_page": "base_page: 1",
    "page_size_param": "limit_param, in a paginator of type offset; else a fixed value in params",
}
"""Key of another tool -> what to write here, where another name for the key is not enough."""
