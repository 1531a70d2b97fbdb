"""Declarative documents for Sluice: from one key to a million, from a few deployments to thousands."""

import json
import random
import zlib

from .workloads import WORKLOADS

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# So many that none is ever reached: what is measured is the counting.
LIMITS = [
    {"metric": "requests", "period": "minute", "amount": 1_000_000_000},
    {"metric": "tokens", "period": "minute", "amount": 1_000_000_000_000},
    {"metric": "cost_usd", "period": "month", "amount": "1000000.00"},
]


def new_key():
    """A virtual key: 40 digits of base 62 and a checksum."""
    # No secret of anybody: quick rather than unguessable.
    text = "vk_" + "".join(random.choices(ALPHABET, k=40))
    crc, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        crc, digit = divmod(crc, 62)
        digits = ALPHABET[digit] + digits
    return text + digits


def document(mock, keys, has_limits=True, targets=2, deployments=0):
    """A deployment for each workload, and `deployments` more named d0, d1, …"""
    models, routes = [], []

    def add(name, upstream_model):
        chosen = []
        for letter in "ab"[:targets]:
            alias = f"{name}-{letter}"
            models.append({
                "alias": alias,
                "connection": "mock",
                "upstream_model": upstream_model,
                "price": {"input": "2.50", "output": "10.00"},
            })
            chosen.append({"model": alias, "weight": 1})
        routes.append({"name": name, "targets": chosen})

    for name, workload in WORKLOADS.items():
        add(name, workload.model)
    for number in range(deployments):
        add(f"d{number}", WORKLOADS["deployments"].model)

    scopes = {"endpoints": "all", "models": "none", "deployments": "all" if deployments else list(WORKLOADS)}
    limits = {"limits": LIMITS} if has_limits else {}
    environment = {
        "slug": "production",
        "connections": [{
            "name": "mock", "provider": "simulated", "base_url": f"http://{mock}/v1", "auth": "none",
        }],
        "models": models,
        "deployments": routes,
        "keys": [
            {"name": f"key-{number}", "secret": key, "scopes": scopes, **limits}
            for number, key in enumerate(keys)
        ],
    }
    return {"workspaces": [{"slug": "bench", "name": "Bench", "environments": [environment]}]}


def write(path, *arguments, **options):
    path.write_text(json.dumps(document(*arguments, **options)))
