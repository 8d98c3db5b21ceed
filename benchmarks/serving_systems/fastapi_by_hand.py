"""FastAPI and ONNX Runtime by hand: ``NETWORK SIDE PORT``; a JPEG as the body."""

import sys

import uvicorn
from answer import Answerer
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

answerer = Answerer(sys.argv[1], side=int(sys.argv[2]))
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> list[float]:
    return await run_in_threadpool(answerer.scores, await request.body())


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), access_log=False, log_level="error")
