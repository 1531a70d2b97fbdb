#!/usr/bin/env python3
"""Makes conf/prices.tsv from the price table inside the Python package litellm.

    python3 conf/refresh-prices.py 1.93.0          # downloads that version with pip
    python3 conf/refresh-prices.py --wheel FILE    # takes a wheel that is already here

docs/prices.md says what is kept, what is left out and why.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from decimal import Decimal

HERE = pathlib.Path(__file__).resolve().parent
TABLE = "litellm/model_prices_and_context_window_backup.json"

# The source's provider -> ours, the prefix of its model ids, and whether an id must have it. Without
# the prefix, Fireworks and Together list classes of sizes, which no request names.
PROVIDERS = {
    "openai": ("openai", "openai/", False),
    "text-completion-openai": ("openai", "openai/", False),
    "anthropic": ("anthropic", "anthropic/", False),
    "azure": ("azure_openai", "azure/", True),
    "azure_text": ("azure_openai", "azure/", True),
    "gemini": ("gemini", "gemini/", True),
    "bedrock": ("bedrock", "bedrock/", False),
    "bedrock_converse": ("bedrock", "bedrock/", False),
    "cohere": ("cohere", "cohere/", False),
    "cohere_chat": ("cohere", "cohere/", False),
    "groq": ("groq", "groq/", True),
    "together_ai": ("together", "together_ai/", True),
    "fireworks_ai": ("fireworks", "fireworks_ai/", True),
    "fireworks_ai-embedding-models": ("fireworks", "fireworks_ai/", True),
    "deepseek": ("deepseek", "deepseek/", False),
    "mistral": ("mistral", "mistral/", True),
    "xai": ("xai", "xai/", True),
    "openrouter": ("openrouter", "openrouter/", True),
    "perplexity": ("perplexity", "perplexity/", True),
    "cerebras": ("cerebras", "cerebras/", True),
    "deepinfra": ("deepinfra", "deepinfra/", True),
    "nvidia_nim": ("nvidia", "nvidia_nim/", True),
    "sambanova": ("sambanova", "sambanova/", True),
}

# What stands before a slash in these ids is a region or a commitment, never part of the model's id.
WITHOUT_SLASH = {"azure_openai", "bedrock"}

KINDS = {
    "chat": "chat",
    "completion": "chat",
    "responses": "chat",
    "embedding": "embedding",
    "audio_transcription": "audio",
    "audio_speech": "audio",
    "realtime": "audio",
    "rerank": "rerank",
    "moderation": "moderation",
}

# Kinds whose answers hold no tokens, so that a missing output price means 0.
WITHOUT_OUTPUT = {"embedding", "rerank", "moderation"}

# Charged on top of tokens for every request: a cost from tokens alone would be wrong.
PER_REQUEST = ["input_cost_per_query", "input_cost_per_request"]

FLAGS = [
    ("v", "supports_vision"),
    ("t", "supports_function_calling"),
    ("r", "supports_reasoning"),
    ("j", "supports_response_schema"),
]

PRICES = [
    ["input_cost_per_token"],
    ["output_cost_per_token"],
    ["cache_read_input_token_cost", "input_cost_per_token_cache_hit"],
    ["cache_creation_input_token_cost"],
    ["cache_creation_input_token_cost_above_1hr"],
    ["output_cost_per_reasoning_token"],
    ["input_cost_per_audio_token"],
    ["output_cost_per_audio_token"],
]

COLUMNS = (
    "provider model kind capabilities context_window max_output_tokens input output cache_read "
    "cache_write_5m cache_write_1h reasoning audio_in audio_out"
)


def nanousd_per_million(usd_per_token):
    """Exact, or an error: USD per token -> nano-dollars per million tokens."""
    exact = Decimal(usd_per_token).scaleb(15)
    if exact != int(exact) or exact < 0:
        raise ValueError(f"{usd_per_token} USD per token is not a whole number of nano-dollars")
    return int(exact)


def key(model_id, source):
    """Our provider and the model's id there, or None for what is not kept."""
    of_name = source.get("litellm_provider", "")
    if of_name.startswith("vertex_ai"):
        provider, prefix, is_required = "vertex", "vertex_ai/", False
    elif of_name in PROVIDERS:
        provider, prefix, is_required = PROVIDERS[of_name]
    else:
        return None
    if model_id.startswith(prefix):
        model_id = model_id[len(prefix):]
    elif is_required:
        return None
    if provider in WITHOUT_SLASH and "/" in model_id:
        return None
    return provider, model_id


def fields(model_id, source):
    """The columns after the key, or None for a model that tokens alone do not price."""
    kind = KINDS.get(source.get("mode"))
    if kind is None or any(source.get(name) for name in PER_REQUEST):
        return None
    prices = [
        next((nanousd_per_million(source[name]) for name in names if source.get(name) is not None), None)
        for names in PRICES
    ]
    if prices[1] is None and kind in WITHOUT_OUTPUT:
        prices[1] = 0
    if prices[0] is None or prices[1] is None:
        return None
    # The source writes 0 for "nobody knows" too; it is believed where the thing is free by name.
    if not any(prices) and kind != "moderation" and not model_id.lower().endswith("free"):
        return None
    limits = [source.get("max_input_tokens"), source.get("max_output_tokens")]
    distrust(prices)
    flags = "".join(letter for letter, name in FLAGS if source.get(name))
    return [kind, flags, *("" if n is None else str(int(n)) for n in limits + prices)]


def distrust(prices):
    """Takes out what the source cannot mean: the base price is then used instead."""
    input_price, _, cache_read, write_5m, write_1h = prices[:5]
    if cache_read == 0 and input_price > 0:
        prices[2] = None
    # One hour costs no less than five minutes, and nobody asks more than twice the input for it.
    if write_1h is not None and not (write_5m or 0) <= write_1h <= 2 * input_price:
        prices[4] = None


def rows(table):
    """Sorted by provider and model id, in bytes."""
    kept, prefixed = {}, {}
    for model_id, source in table.items():
        at = key(model_id, source)
        after = at and fields(model_id, source)
        if not after:
            continue
        is_prefixed = model_id != at[1]
        if at in kept and kept[at] != after:
            # Two spellings of one model: the one that names the provider is the more specific.
            print(f"{at}: {kept[at]} and {after}", file=sys.stderr)
            if prefixed[at] and not is_prefixed:
                continue
        kept[at], prefixed[at] = after, is_prefixed
    for at, after in sorted(kept.items()):
        line = "\t".join([*at, *after]).rstrip("\t")
        if not line.isascii() or any("\t" in part or "\n" in part for part in at):
            raise ValueError(f"{at} cannot stand in the table")
        yield line


def download(version, folder):
    package = f"litellm=={version}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package]
    subprocess.run(command, check=True)
    return next(pathlib.Path(folder).glob("*.whl"))


def main(arguments):
    with tempfile.TemporaryDirectory() as folder:
        match arguments:
            case ["--wheel", file]:
                wheel = pathlib.Path(file)
            case [version]:
                wheel = download(version, folder)
            case _:
                sys.exit(__doc__)
        with zipfile.ZipFile(wheel) as archive:
            year, month, day = archive.getinfo(TABLE).date_time[:3]
            table = json.loads(archive.read(TABLE), parse_float=Decimal)
            licence = next(n for n in archive.namelist() if n.endswith(".dist-info/licenses/LICENSE"))
            licence = archive.read(licence).decode()
        source = "-".join(wheel.name.split("-")[:2])

    body = "\n".join(rows(table)) + "\n"
    digest = hashlib.sha256(body.encode()).hexdigest()[:8]
    head = [
        f"# catalogue-{year}-{month:02}-{day:02}-{digest}",
        f"# From {source}, Copyright (c) 2023 Berri AI, MIT License: see prices.LICENSE.",
        "# " + "\t".join(COLUMNS.split()),
    ]
    (HERE / "prices.tsv").write_text("\n".join(head) + "\n" + body)
    (HERE / "prices.LICENSE").write_text(
        f"prices.tsv is made from the model price table of the Python package {source},\n"
        f"whose licence follows.\n\n{licence}"
    )
    print(f"{head[0][2:]}: {body.count(chr(10))} models, {len(body)} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
