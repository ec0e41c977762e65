"""Django REST framework: a log of the accepted requests of the last window. It only sends Retry-After."""

from __future__ import annotations

import argparse
import threading
from typing import Any

import django
from django.conf import settings


def make(options: argparse.Namespace) -> Any:
    """Return the WSGI application."""
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=__name__,
            ALLOWED_HOSTS=["*"],
            REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
            CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        )
        django.setup()
    from django.core.cache import cache
    from django.core.wsgi import get_wsgi_application
    from django.urls import path
    from rest_framework.renderers import JSONRenderer
    from rest_framework.response import Response
    from rest_framework.throttling import SimpleRateThrottle
    from rest_framework.views import APIView

    cache.clear()
    one_at_a_time = threading.Lock()  # the framework reads and writes its log without a lock

    class Limit(SimpleRateThrottle):  # type: ignore[misc]
        rate = "from the options"

        def parse_rate(self, rate: str) -> tuple[int, float]:
            return options.limit, options.window

        def get_cache_key(self, request: Any, view: Any) -> str:
            return "all"

        def allow_request(self, request: Any, view: Any) -> bool:
            with one_at_a_time:
                return bool(super().allow_request(request, view))

        def wait(self) -> float | None:
            return super().wait() if options.retry_after else None

    class Item(APIView):  # type: ignore[misc]
        throttle_classes = (Limit,)
        renderer_classes = (JSONRenderer,)

        def get(self, request: Any, n: int) -> Any:
            return Response({"id": n})

    global urlpatterns
    urlpatterns = [path("item/<int:n>", Item.as_view())]
    return get_wsgi_application()


urlpatterns: list[Any] = []
