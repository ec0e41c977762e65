"""
A Django REST framework site in one file: `python django_site.py PORT` serves it.

It lists books in three styles of pagination, behind a token, a login or nothing. It imports nothing from scrapeq.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command, execute_from_command_line

HERE = Path.cwd()
BOOKS = 230

settings.configure(
    DEBUG=False,
    SECRET_KEY="only for tests on this machine",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "books.db"}},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "rest_framework",
        "rest_framework.authtoken",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.locmem.Loader",
                        {
                            "registration/login.html": "<form method=post>{% csrf_token %}{{ form.as_p }}"
                            "<button>Log in</button></form>"
                        },
                    )
                ],
                "context_processors": ["django.template.context_processors.request"],
            },
        }
    ],
    TIME_ZONE="UTC",
    LOGIN_REDIRECT_URL="/numbered/",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - needs the settings
from django.contrib.auth.views import LoginView  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import (  # noqa: E402
    authentication,
    generics,
    pagination,
    permissions,
    serializers,
    throttling,
)
from rest_framework.authtoken.models import Token  # noqa: E402


class Book(models.Model):
    """The record to scrape."""

    title = models.CharField(max_length=100)
    pages = models.IntegerField()
    updated = models.DateTimeField()

    class Meta:
        app_label = "books"
        ordering = ("id",)


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ("id", "title", "pages", "updated")


class Numbered(pagination.PageNumberPagination):
    page_size = 25
    page_size_query_param = "page_size"
    max_page_size = 50


class Offset(pagination.LimitOffsetPagination):
    default_limit = 25
    max_limit = 50


class Cursor(pagination.CursorPagination):
    page_size = 25
    ordering = "-updated"


class Slow(throttling.SimpleRateThrottle):
    """Refuse the fifth request within two seconds, with Retry-After."""

    scope = "slow"
    THROTTLE_RATES = {"slow": "8/min"}  # noqa: RUF012 - as in the framework

    def parse_rate(self, rate: str | None) -> tuple[int, int]:
        return 4, 2  # four in two seconds

    def get_cache_key(self, request: object, view: object) -> str:
        return "slow"


class BookList(generics.ListAPIView):
    queryset = Book.objects.all()
    serializer_class = BookSerializer


def books(paginator: type, **more: object) -> Any:
    """Return the view of all books with a pagination class."""
    view: Any = type(paginator.__name__, (BookList,), {"pagination_class": paginator, **more})
    return view.as_view()


signed_in = {"permission_classes": [permissions.IsAuthenticated]}
urlpatterns = [
    path("numbered/", books(Numbered)),
    path("offset/", books(Offset)),
    path("cursor/", books(Cursor)),
    path("plain/", BookList.as_view(pagination_class=None)),
    path("slow/", books(Numbered, throttle_classes=[Slow])),
    path(
        "by-token/",
        books(Numbered, authentication_classes=[authentication.TokenAuthentication], **signed_in),
    ),
    path(
        "by-session/",
        books(Numbered, authentication_classes=[authentication.SessionAuthentication], **signed_in),
    ),
    path("accounts/login/", LoginView.as_view()),
]


def fill() -> None:
    """Create and fill the database. The token is fixed, so that tests know it."""
    from datetime import UTC, datetime, timedelta

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Book)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    Book.objects.bulk_create(
        Book(title=f"Book {n} — «{n % 7}»", pages=n * 13 % 900, updated=start + timedelta(hours=n))
        for n in range(1, BOOKS + 1)
    )
    user = User.objects.create_user("ada", password="lovelace")
    Token.objects.create(user=user, key="0123456789abcdef0123456789abcdef01234567")


if __name__ == "__main__":
    fill()
    execute_from_command_line(["django_site", "runserver", f"127.0.0.1:{sys.argv[1]}", "--noreload"])
