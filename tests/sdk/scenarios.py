"""Runs the scenarios of one script and says which passed.

A scenario is a function decorated with `@scenario`. Its name is the argument of the script. A script
prints `ok NAME` for each that passed, and stops with status 1 at the first that did not.
"""

import faulthandler
import json
import logging
import os
import sys
import traceback

URL = os.environ["SLUICE_URL"].rstrip("/")
KEY = os.environ["SLUICE_KEY"]
BAD_KEY = os.environ["SLUICE_BAD_KEY"]

# Set when the scripts talk to the simulated provider itself, without a gateway: deployment name ->
# model name. What only a gateway does is skipped then.
MODEL_MAP = json.loads(os.environ.get("SLUICE_MODEL_MAP", "null"))

# No scenario takes a fifth of this.
SECONDS_MAX = 30

_scenarios = {}


def scenario(function):
    """Registers a scenario that holds with and without a gateway."""
    _scenarios[function.__name__] = function
    return function


def gateway_scenario(function):
    """Registers a scenario about what the gateway itself does."""

    def run():
        if MODEL_MAP is not None:
            return "skip"
        return function()

    _scenarios[function.__name__] = run
    return function


def model(deployment):
    """The name to send in `model`."""
    return (MODEL_MAP or {}).get(deployment, deployment)


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def check_equal(actual, expected, what):
    check(actual == expected, f"{what}: expected {expected!r}, got {actual!r}")


def check_headers(headers, deployment, attempts=1):
    """What the gateway says about a request. `headers` has a case-insensitive `get`."""
    if MODEL_MAP is not None:
        return
    request_id = headers.get("x-request-id")
    check(request_id, f"no x-request-id in {dict(headers)}")
    check(len(request_id) == 36 and request_id[14] == "7", f"x-request-id is no UUIDv7: {request_id}")
    check_equal(headers.get("x-sluice-deployment"), deployment, "x-sluice-deployment")
    check_equal(headers.get("x-sluice-attempts"), str(attempts), "x-sluice-attempts")


def check_no_key(text, key):
    check(key not in text, "the answer repeats the key")


class Retries(logging.Handler):
    """Counts the retries that an SDK announces in its log."""

    def __init__(self, logger):
        super().__init__(logging.INFO)
        self.count = 0
        self._logger = logging.getLogger(logger)

    def emit(self, record):
        if "etrying request" in record.getMessage():
            self.count += 1

    def __enter__(self):
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *_):
        self._logger.removeHandler(self)


def raised(error_type, function):
    """The error that `function` raises, which must be exactly of this type."""
    try:
        function()
    except Exception as error:
        check(
            type(error) is error_type,
            f"expected {error_type.__name__}, got {type(error).__name__}: {error}",
        )
        return error
    raise AssertionError(f"expected {error_type.__name__}, and nothing was raised")


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} all|" + "|".join(_scenarios))
    wanted = sys.argv[1]
    if wanted != "all" and wanted not in _scenarios:
        sys.exit(f"no scenario `{wanted}`; there are: all {' '.join(_scenarios)}")
    for name, function in _scenarios.items():
        if wanted not in ("all", name):
            continue
        # A hang ends the process, with the place where it hung.
        faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
        try:
            outcome = function()
        except Exception:
            traceback.print_exc()
            sys.exit(f"FAILED {name}")
        finally:
            faulthandler.cancel_dump_traceback_later()
        print(f"skip {name}" if outcome == "skip" else f"ok {name}", flush=True)
