"""Machine learning, and the tokenisers that go with it."""

from table import case


@case("scikit-learn")
def _() -> None:
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    x = np.r_[np.zeros((20, 2)), np.ones((20, 2))] + np.arange(40)[:, None] / 1000
    y = np.r_[np.zeros(20), np.ones(20)]
    assert LogisticRegression().fit(x, y).score(x, y) == 1
    assert RandomForestClassifier(5, random_state=0).fit(x, y).score(x, y) == 1
    labels = KMeans(2, n_init=2, random_state=0).fit(x).labels_
    assert len(set(labels[:20])) == 1 and labels[0] != labels[-1]


@case("torch", large=True)
def _() -> None:
    import torch

    torch.manual_seed(7)
    torch.set_num_threads(2)
    inputs = torch.rand(64, 3)
    wanted = inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.25
    layers = [torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10, losses


@case("onnxruntime", "protobuf")
def _() -> None:
    import numpy as np
    import onnxruntime

    # y = x + x, as the bytes of an ONNX model: a ModelProto is written by hand, so
    # that the case needs no second large package.
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    def varint(number: int, value: int) -> bytes:
        return bytes([number << 3, value])

    shape = field(2, field(1, varint(1, 3)))
    kind = field(1, varint(1, 1) + shape)
    node = field(1, b"x") + field(1, b"x") + field(2, b"y") + field(4, b"Add")
    graph = field(1, node) + field(2, b"g")
    graph += field(11, field(1, b"x") + field(2, kind))
    graph += field(12, field(1, b"y") + field(2, kind))
    model = varint(1, 8) + field(7, graph) + field(8, varint(2, 13))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.array([1, 2, 3], np.float32)})
    assert y.tolist() == [2.0, 4.0, 6.0]


@case("xgboost")
def _() -> None:
    import numpy as np
    import xgboost

    x = np.arange(40.0)[:, None]
    data = xgboost.DMatrix(x, label=x[:, 0] > 20)
    model = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, data, num_boost_round=5
    )
    assert ((model.predict(data) > 0.5) == (x[:, 0] > 20)).all()


@case("lightgbm")
def _() -> None:
    import lightgbm
    import numpy as np

    x = np.arange(100.0)[:, None]
    options = {"verbose": -1, "min_data_in_leaf": 2, "num_threads": 1}
    options["objective"] = "binary"
    model = lightgbm.train(options, lightgbm.Dataset(x, label=x[:, 0] > 50), 10)
    assert model.predict([[10.0], [90.0]]).round().tolist() == [0.0, 1.0]


@case("spacy")
def _() -> None:
    import spacy

    language = spacy.blank("en")
    language.add_pipe("sentencizer")
    text = language("Atolls are rings. They don't sink!")
    assert len(list(text.sents)) == 2
    assert "n't" in [token.text for token in text]


@case("tokenizers")
def _() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(special_tokens=["?"], show_progress=False)
    tokenizer.train_from_iterator(["low lower lowest"] * 3, trainer)
    assert tokenizer.encode("lower").tokens == ["lower"]


@case("tiktoken")
def _() -> None:
    import tiktoken

    ranks = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"abc": 257}
    encoding = tiktoken.Encoding(
        "small", pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens={}
    )
    assert encoding.encode("abc a") == [257, 32, 97]
    assert encoding.decode([257, 32, 97]) == "abc a"


@case("safetensors", "numpy")
def _() -> None:
    import numpy as np
    from safetensors.numpy import load, save

    tensors = load(save({"w": np.arange(4, dtype=np.float32)}))
    assert tensors["w"].tolist() == [0.0, 1.0, 2.0, 3.0]


@case("sentencepiece")
def _() -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox", "jumps over the lazy dog"] * 20),
        model_writer=model,
        vocab_size=35,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert processor.decode(processor.encode("the lazy fox")) == "the lazy fox"
