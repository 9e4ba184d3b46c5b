"""What all tables share: names of constraints, types, and the columns of every resource."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.store.db import Json, Utc, utcnow


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it off the class)
        str: String,
        float: Double,
        datetime: Utc,
        dict[str, Any]: Json,
        list[Any]: Json,
    }


class Named:
    """What clients write to every resource of the API."""

    name: Mapped[str] = mapped_column(default="")
    notes: Mapped[str] = mapped_column(Text, default="")
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", Json, default=dict)


class Resource(Named):
    """What a resource of a project carries."""

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
