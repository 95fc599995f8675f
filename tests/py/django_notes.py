"""What the Django applications of the tests have in common: notes in a database."""

#: Settings, and the table.
NOTES = """
import fcntl
import os
import django
from django.conf import settings
settings.configure(
    DEBUG=False, SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3",
                           "NAME": os.path.join(os.getcwd(), "db.sqlite3"),
                           "OPTIONS": {"timeout": 60}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", INSTALLED_APPS=[],
)
django.setup()
from django.db import connection, models

class Note(models.Model):
    text = models.CharField(max_length=100)
    class Meta:
        app_label = "notes"
"""

#: Behind the views: the table is made by whichever worker comes first.
MADE = """
with open("lock", "w") as lock:  # every process comes here
    fcntl.flock(lock, fcntl.LOCK_EX)
    if Note._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Note)
connection.close()
"""
