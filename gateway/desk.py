"""The calls of the API for whoever looks after the house: tokens, audit, what is stored, erasures."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from gateway.calls import Endpoint, json_of, parameters_of
from gateway.manage_shapes import (
    AuditReply,
    AuditWanted,
    CheckedChain,
    CreatedToken,
    ErasureInfo,
    ErasuresReply,
    NewErasure,
    NewToken,
    Receipt,
    StorageReply,
    TokenInfo,
    TokensReply,
)
from gateway.managing import Managing, said_in, text_of
from gateway.shapes import API, Nothing
from proto.errors import Unknown
from proto.v1 import manage_pb2

_NUMBER = (("number", "The erasure's number.", "^[0-9]{1,18}$"),)


class Desk:
    """The calls, by way of `Managing`."""

    def __init__(self, managing: Managing) -> None:
        self._ask = managing.ask
        tokens, erasures = f"{API}/tokens", f"{API}/erasures"
        self.endpoints = (
            Endpoint(
                *("GET", f"{API}/storage", "storage", "What is stored. For operators.", self._storage),
                gives=StorageReply,
            ),
            Endpoint("GET", tokens, "tokens", "All tokens. For admins.", self._tokens, gives=TokensReply),
            Endpoint(
                *("POST", tokens, "createToken", "A new token. For admins.", self._create),
                body=NewToken,
                gives=CreatedToken,
                status=201,
            ),
            Endpoint(
                *("DELETE", f"{tokens}/{{id}}", "revokeToken", "End a token. For admins.", self._revoke),
                gives=TokenInfo,
                path_parameters=(("id", "The token's id.", "^[0-9a-f]{12}$"),),
            ),
            Endpoint(
                *("GET", f"{API}/audit", "audit", "Who asked what. For admins.", self._audit),
                query=AuditWanted,
                gives=AuditReply,
            ),
            Endpoint(
                *("POST", f"{API}/demo", "addDemo", "Watch the demo's clips. For admins.", self._demo),
                gives=None,
                status=204,
            ),
            Endpoint("GET", erasures, "erasures", "What was erased. For admins.", self._erasures, gives=ErasuresReply),
            Endpoint(
                *("POST", erasures, "erase", "Have a time of a camera forgotten, for good. For admins.", self._erase),
                body=NewErasure,
                gives=ErasureInfo,
                status=201,
            ),
            Endpoint(
                *("GET", f"{erasures}/{{number}}/receipt", "receipt", "A signed receipt. For admins.", self._receipt),
                gives=Receipt,
                path_parameters=_NUMBER,
            ),
        )

    async def _storage(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        told = await self._ask(request, manage_pb2.StorageRequest(), manage_pb2.StorageReply)
        return json_of(StorageReply.model_validate(told))

    async def _tokens(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        told = await self._ask(request, manage_pb2.TokensRequest(), manage_pb2.TokensReply)
        return json_of(TokensReply.model_validate(told))

    async def _create(self, request: Request) -> Response:
        new = await said_in(request, NewToken)
        wanted = manage_pb2.CreateTokenRequest(
            name=text_of(new.name, "name"),
            role=text_of(new.role, "role"),
            cameras=[text_of(one, "camera") for one in new.cameras],
            groups=[text_of(one, "group") for one in new.groups],
            days=new.days,
        )
        made = await self._ask(request, wanted, manage_pb2.CreatedToken)
        return json_of(CreatedToken.model_validate(made), 201)

    async def _revoke(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        wanted = manage_pb2.RevokeTokenRequest(id=text_of(request.path_params["id"], "id"))
        return json_of(TokenInfo.model_validate(await self._ask(request, wanted, manage_pb2.TokenInfo)))

    async def _audit(self, request: Request) -> Response:
        asked = parameters_of(request, AuditWanted)
        wanted = manage_pb2.AuditRequest(count=asked.count, verify=asked.verify)
        told = await self._ask(request, wanted, manage_pb2.AuditReply)
        chains = [CheckedChain.model_validate(one) for one in told.chains]
        return json_of(AuditReply(lines=[json.loads(line) for line in told.lines], chains=chains))

    async def _demo(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        await self._ask(request, manage_pb2.AddDemoRequest(), manage_pb2.Done)
        return Response(status_code=204)

    async def _erasures(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        told = await self._ask(request, manage_pb2.ErasuresRequest(), manage_pb2.ErasuresReply)
        return json_of(ErasuresReply.model_validate(told))

    async def _erase(self, request: Request) -> Response:
        new = await said_in(request, NewErasure)
        wanted = manage_pb2.EraseRequest(
            camera=text_of(new.camera, "camera"),
            start_ms=new.start_ms,
            end_ms=new.end_ms,
            reason=text_of(new.reason, "reason"),
        )
        return json_of(ErasureInfo.model_validate(await self._ask(request, wanted, manage_pb2.ErasureInfo)), 201)

    async def _receipt(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        number = request.path_params["number"]
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            raise Unknown("there is no erasure of that number", todo="GET /api/v1/erasures lists them")
        told = await self._ask(request, manage_pb2.ReceiptRequest(number=int(number)), manage_pb2.ReceiptReply)
        headers = {"content-disposition": f'attachment; filename="erasure-{number}.json"'}
        return Response(told.json, headers=headers, media_type="application/json")
