"""How our structs read in the API's OpenAPI document.

The framework's own reading of `msgspec` structs fails on a default that is a mapping, which
envelopes have; this one says nothing about defaults, and which fields must be there.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

__all__ = ["StructSchemas"]


class StructSchemas(OpenAPISchemaPlugin):
    """Describes any struct by its fields, under the names that they have in JSON."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Say whether a field is a struct."""
        return not field_definition.is_union and field_definition.is_subclass_of(msgspec.Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Any:
        """Return the schema of a struct, as a component of the document."""
        hints = field_definition.get_type_hints(include_extras=True, resolve_generics=True)
        fields = msgspec.structs.fields(field_definition.type_)
        return schema_creator.create_component_schema(
            field_definition,
            required=sorted(field.encode_name for field in fields if field.required),
            property_fields={
                field.encode_name: FieldDefinition.from_annotation(
                    annotation=hints[field.name], name=field.encode_name
                )
                for field in fields
            },
        )
