"""What all rooms of the settings are made of. Sizes are bytes, times are seconds."""

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, SecretStr, model_validator

from sentinel_gateway.settings.values import check_key, split_list

DAY: Final = 86_400
YEAR: Final = 365 * DAY
KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

Seconds = Annotated[float, Field(gt=0, le=YEAR)]
Lifetime = Annotated[float, Field(ge=0, le=YEAR)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Usd = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=9)]
Size = Annotated[ByteSize, Field(ge=1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(split_list)]
Key = Annotated[SecretStr, AfterValidator(check_key)]
Treatment = Literal["usual", "exact", "brief", "never"]


class Room(BaseModel):
    """What all rooms share: frozen, closed, and null means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if data is None:
            return {}
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}
