"""Requests out: strict. One value per generation of the provider's API.

What is unset is left out, never sent as null: the provider refuses fields that it does not know.
`quality` is always sent, because it is the price. `metadata` never is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote as quoted

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from fluxflex._core import jsonlib
from fluxflex._core.exchange import Call, Intent, Redirects
from fluxflex._core.request import GenerateRequest
from fluxflex.errors import Fault, InvalidRequestError

_MODEL = "black-forest-labs/flux.2-flex"
# What the price cannot depend on.
_NO_SETTING = ("prompt", "callback_url", "metadata")


@attrs.frozen
class Api:
    """One generation of the provider's API.

    Attributes:
        name: as users write it in `Session(api=…)`.
        submit_path, status_path: of its endpoints; the task's id follows the latter.
        aspect_ratios: those it knows.
        payload: a request as the JSON object it takes.
        dry_run: the field that has a submit priced instead of accepted, where it has one.
    """

    name: str
    submit_path: str
    status_path: str
    aspect_ratios: frozenset[str]
    payload: Callable[[GenerateRequest], Mapping[str, object]]
    dry_run: str | None = None

    def check(self, request: GenerateRequest) -> None:
        """Refuse what this generation does not know.

        Raises:
            InvalidRequestError: before anything is sent.
        """
        if request.aspect_ratio not in self.aspect_ratios:
            known = ", ".join(sorted(self.aspect_ratios))
            fault = f"{request.aspect_ratio!r} is not known to api={self.name!r}: {known}"
            raise InvalidRequestError([Fault("aspect_ratio", fault)])

    def submit(
        self, base_url: str, request: GenerateRequest, callback_url: str | None = None
    ) -> Call:
        """Return the call that submits a request.

        Args:
            base_url: the API's address.
            request: what is asked for.
            callback_url: where its end is reported, in place of what the request says.
        """
        payload = self.payload(request)
        if callback_url is not None:
            payload = {**payload, "callback_url": callback_url}
        return self._post(base_url, payload, Intent.SUBMIT)

    def quote(self, base_url: str, request: GenerateRequest) -> Call | None:
        """Return the call that prices a request and creates nothing; `None` where there is none.

        It costs nothing, so it may be repeated, although it is a POST. It has no `callback_url`:
        there will be nothing to report.
        """
        if self.dry_run is None:
            return None
        payload = self.payload(attrs.evolve(request, callback_url=None))
        return self._post(base_url, {**payload, self.dry_run: True}, Intent.READ)

    def setting(self, request: GenerateRequest) -> tuple[object, ...]:
        """Return all that the price may depend on: requests of equal settings cost the same.

        Of the reference pictures that is how many there are.
        """
        values = attrs.asdict(request, recurse=False, filter=attrs.filters.exclude(*_NO_SETTING))
        return (self.name, *(values | {"image_urls": len(request.image_urls)}).values())

    def status(self, base_url: str, task_id: str) -> Call:
        """Return the call that asks how a task stands."""
        return Call(
            method="GET",
            url=f"{base_url}{self.status_path}/{quoted(task_id, safe='')}",
            intent=Intent.READ,
            redirects=Redirects.SAME_ORIGIN,
        )

    def _post(self, base_url: str, payload: Mapping[str, object], intent: Intent) -> Call:
        return Call(
            method="POST",
            url=base_url + self.submit_path,
            intent=intent,
            body=jsonlib.dumps(payload),
        )


_flat = make_dict_unstructure_fn(
    GenerateRequest,
    cattrs.Converter(),
    _cattrs_omit_if_default=True,
    quality=override(omit_if_default=False),
    metadata=override(omit=True),
)

_input = make_dict_unstructure_fn(
    GenerateRequest,
    cattrs.Converter(),
    _cattrs_omit_if_default=True,
    quality=override(omit_if_default=False, rename="resolution", unstruct_hook=str.lower),
    cfg=override(rename="guidance"),
    callback_url=override(omit=True),  # it stands beside the input
    metadata=override(omit=True),
)


def _unified(request: GenerateRequest) -> Mapping[str, object]:
    body = {"model": _MODEL, "input": _input(request)}
    url = request.callback_url
    return body if url is None else {**body, "callback_url": url}


FLUX_2_FLEX = Api(
    name="flux.2-flex",
    submit_path="/flux.2-flex/generate",
    status_path="/flux.2-flex/status",
    aspect_ratios=frozenset({"auto", "1:1", "4:3", "16:9", "3:2", "2:3", "9:16", "3:4"}),
    payload=_flat,
)

V1 = Api(
    name="v1",
    submit_path="/v1/tasks",
    status_path="/v1/tasks",
    aspect_ratios=frozenset({"auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16", "9:21"}),
    payload=_unified,
    dry_run="dry_run",
)

APIS: Mapping[str, Api] = {api.name: api for api in (FLUX_2_FLEX, V1)}


def account(base_url: str, path: str) -> Call:
    """Return the call that asks for the account behind the key."""
    return Call(
        method="GET", url=base_url + path, intent=Intent.READ, redirects=Redirects.SAME_ORIGIN
    )


# The documentation says the first, people in the field use the second.
ACCOUNT_PATHS = ("/account", "/v1/account")
