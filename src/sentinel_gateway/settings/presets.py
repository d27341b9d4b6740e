"""Providers that need nothing but a key: what they speak, where they are, and how they want the key. Data, no behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

Dialect = Literal["openai", "anthropic", "gemini", "bedrock"]
"""What a provider may speak."""

DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)

AUTHORIZATION: Final = "authorization"

KEY_HEADERS: Final[Mapping[Dialect, str]] = MappingProxyType(
    {"openai": AUTHORIZATION, "anthropic": "x-api-key", "gemini": "x-goog-api-key", "bedrock": AUTHORIZATION}
)
"""The header that carries the key, as each dialect's makers want it; `authorization` has it as a bearer token."""


@dataclass(frozen=True, slots=True)
class Preset:
    """`base_url` is None where every customer has their own. `key_header` carries the key, where it is not its dialect's.

    `regional`: its base URL names the `{region}`, and credentials of the cloud that it is in stand in for the key.
    `also` are the other dialects that it speaks, and where.
    `other_keys` are well-known names of the key's variable beside `key_env`. `default_model` answers queries that name none.
    """

    name: str
    base_url: str | None
    needs_key: bool = True
    key_header: str | None = None
    other_keys: tuple[str, ...] = ()
    default_model: str | None = None
    dialect: Dialect = "openai"
    regional: bool = False
    also: Mapping[Dialect, str] = field(default_factory=dict)

    @property
    def key_env(self) -> str:
        """The variable that holds the key, such as GROQ_API_KEY."""
        return f"{self.name.upper()}_API_KEY"

    @property
    def base_url_env(self) -> str:
        """The variable that replaces the base URL, such as GROQ_BASE_URL."""
        return f"{self.name.upper()}_BASE_URL"

    @property
    def switch(self) -> str:
        """What to set to switch it on."""
        if not self.needs_key:
            return self.base_url_env
        return self.key_env if self.base_url else f"{self.key_env} and {self.base_url_env}"


_ALL: Final = (
    Preset("openai", "https://api.openai.com/v1", default_model="gpt-4"),
    Preset("groq", "https://api.groq.com/openai/v1", default_model="llama-3.3-70b-versatile"),
    Preset("anthropic", "https://api.anthropic.com", dialect="anthropic"),
    Preset(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        other_keys=("GOOGLE_API_KEY",),
        also=MappingProxyType({"gemini": "https://generativelanguage.googleapis.com/v1beta"}),
    ),
    Preset(
        "bedrock",
        "https://bedrock-runtime.{region}.amazonaws.com",
        other_keys=("AWS_BEARER_TOKEN_BEDROCK",),
        dialect="bedrock",
        regional=True,
    ),
    Preset("mistral", "https://api.mistral.ai/v1"),
    Preset("deepseek", "https://api.deepseek.com/v1"),
    Preset("xai", "https://api.x.ai/v1"),
    Preset("qwen", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", other_keys=("DASHSCOPE_API_KEY",)),
    Preset("openrouter", "https://openrouter.ai/api/v1"),
    Preset("together", "https://api.together.xyz/v1"),
    Preset("fireworks", "https://api.fireworks.ai/inference/v1"),
    Preset("cerebras", "https://api.cerebras.ai/v1"),
    Preset("portkey", "https://api.portkey.ai/v1", key_header="x-portkey-api-key"),
    Preset("azure", None, key_header="api-key", other_keys=("AZURE_OPENAI_API_KEY",)),
    Preset("ollama", "http://127.0.0.1:11434/v1", needs_key=False),
    Preset("vllm", "http://127.0.0.1:8000/v1", needs_key=False),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})
"""By name."""
