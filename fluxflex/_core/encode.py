"""Requests out: strict. One value per generation of the provider's API.

What is unset is left out, never sent as null: the provider refuses fields that it does not know.
`quality` is always sent, because it is the price. `metadata` never is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from fluxflex._core import jsonlib
from fluxflex._core.exchange import Call, Intent, Redirects
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import Fault, InvalidRequestError

_JSON = {"content-type": "application/json"}


@attrs.frozen
class Api:
    """One generation of the provider's API.

    Attributes:
        name: as users write it in `Session(api=…)`.
        submit_path, status_path: of its endpoints; the task's id follows the latter.
        aspect_ratios: those it knows.
        payload: a request as the JSON object it takes.
    """

    name: str
    submit_path: str
    status_path: str
    aspect_ratios: frozenset[str]
    payload: Callable[[GenerateRequest], Mapping[str, object]]

    def check(self, request: GenerateRequest) -> None:
        """Refuse what this generation does not know.

        Raises:
            InvalidRequestError: before anything is sent.
        """
        if request.aspect_ratio not in self.aspect_ratios:
            known = ", ".join(sorted(self.aspect_ratios))
            fault = f"{request.aspect_ratio!r} is not known to api={self.name!r}: {known}"
            raise InvalidRequestError([Fault("aspect_ratio", fault)])

    def submit(self, base_url: str, request: GenerateRequest) -> Call:
        """Return the call that submits a request."""
        return Call(
            method="POST",
            url=base_url + self.submit_path,
            intent=Intent.SUBMIT,
            body=jsonlib.dumps(self.payload(request)),
            headers=_JSON,
        )

    def status(self, base_url: str, task_id: str) -> Call:
        """Return the call that asks how a task stands."""
        return Call(
            method="GET",
            url=f"{base_url}{self.status_path}/{quote(task_id, safe='')}",
            intent=Intent.READ,
            redirects=Redirects.SAME_ORIGIN,
        )


def _flat() -> Callable[[GenerateRequest], Mapping[str, object]]:
    converter = cattrs.Converter()
    unset = override(omit_if_default=True)
    converter.register_unstructure_hook(
        GenerateRequest,
        make_dict_unstructure_fn(
            GenerateRequest,
            converter,
            image_urls=unset,
            aspect_ratio=unset,
            steps=unset,
            cfg=unset,
            callback_url=unset,
            metadata=override(omit=True),
        ),
    )
    hook: Callable[[GenerateRequest], Mapping[str, object]]
    hook = converter.get_unstructure_hook(GenerateRequest)
    return hook


FLUX_2_FLEX = Api(
    name="flux.2-flex",
    submit_path="/flux.2-flex/generate",
    status_path="/flux.2-flex/status",
    aspect_ratios=frozenset({"auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4"}),
    payload=_flat(),
)

APIS: Mapping[str, Api] = {api.name: api for api in (FLUX_2_FLEX,)}


def account(base_url: str, path: str) -> Call:
    """Return the call that asks for the account behind the key."""
    return Call(
        method="GET", url=base_url + path, intent=Intent.READ, redirects=Redirects.SAME_ORIGIN
    )


# The documentation says the first, people in the field use the second.
ACCOUNT_PATHS = ("/account", "/v1/account")
