"""BERT, ViT and GPT-2 of Hugging Face transformers, small and random, are read as they compute."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")
pytest.importorskip("xarray", reason="xarray is not installed")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (NEIGHBOURS)"
)

from attsvm.torch import inspect, read  # noqa: E402
from attsvm.torch.call import NotReadableError  # noqa: E402

B, T, H, LAYERS = 3, 6, 2, 2
SMALL = {"hidden_size": 8, "num_attention_heads": H, "num_hidden_layers": LAYERS}
TEXT = {**SMALL, "vocab_size": 20, "intermediate_size": 12, "max_position_embeddings": 16}
GPT2 = {"n_embd": 8, "n_head": H, "n_layer": LAYERS, "vocab_size": 20, "n_positions": 16}
IMAGES = {**SMALL, "image_size": 8, "patch_size": 4, "intermediate_size": 12, "num_channels": 1}

pytestmark = pytest.mark.usefixtures("one_thread_of_torch")
each_implementation = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def drawn(kind, config, implementation="eager", spread=0.7):
    """A model with all parameters drawn, biases too, in training with dropout."""
    torch.manual_seed(0)
    config._attn_implementation = implementation
    model = kind(config)
    with torch.no_grad():
        for block in model.parameters():
            block.normal_(0.0, spread)
    return model.train()


def words(padding="right"):
    torch.manual_seed(1)
    mask = (torch.arange(T) < torch.tensor([[T], [T - 2], [T - 1]])).long()
    return {
        "input_ids": torch.randint(1, 20, (B, T)),
        "attention_mask": mask if padding == "right" else mask.flip(1),
    }


def weights_of(model, batch, name="attentions"):
    """The attention of the model itself, (B, H, L, T) of every layer, without dropout."""
    before = model.config._attn_implementation
    model.eval().set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(**batch, output_attentions=True)[name]
    model.train().set_attn_implementation(before)
    return weights


def assert_weights(layers, weights):
    for layer, of_model in zip(layers, weights, strict=True):
        expected = of_model.double().numpy()[layer.sample, :, layer.position]
        for head in range(layer.heads):
            W = layer.weights(head).dense()
            logits = np.einsum("ntd,de,ne->nt", layer.keys[layer.sample], W, layer.queries)
            logits = np.where(layer.attended[head], logits, -np.inf)
            found = np.exp(logits - logits.max(axis=1, keepdims=True))
            found /= found.sum(axis=1, keepdims=True)
            assert found == pytest.approx(expected[:, head], abs=1e-5)
            assert layer.attention[head] == pytest.approx(expected[:, head], abs=1e-5)
        assert np.ptp(expected) > 0.05


@each_implementation
@pytest.mark.parametrize("padding", ["right", "left"])
def test_bert(implementation, padding):
    model = drawn(transformers.BertModel, transformers.BertConfig(**TEXT), implementation)
    batch = words(padding)
    layers = read(model, batch, lambda out: out.pooler_output.sum())
    assert [layer.name for layer in layers] == [
        f"encoder.layer.{k}.attention.self" for k in range(LAYERS)
    ]
    assert_weights(layers, weights_of(model, batch))
    assert all(len(layer.sample) == int(batch["attention_mask"].sum()) for layer in layers)


@each_implementation
def test_bert_as_a_decoder_with_cross_attention(implementation):
    config = transformers.BertConfig(**TEXT, is_decoder=True, add_cross_attention=True)
    model = drawn(transformers.BertLMHeadModel, config, implementation)
    torch.manual_seed(2)
    batch = {**words(), "encoder_hidden_states": torch.randn(B, 4, 8)}
    batch["encoder_attention_mask"] = (torch.arange(4) < torch.tensor([[4], [2], [3]])).long()
    layers = read(model, batch, lambda out: out.logits.square().sum())
    assert_weights(layers[::2], weights_of(model, batch))
    assert_weights(layers[1::2], weights_of(model, batch, "cross_attentions"))
    assert (layers[0].attended[0].sum(axis=1) <= layers[0].position + 1).all()
    assert layers[1].attended[0].sum(axis=1).max() == 4


def test_layers_made_alike_are_read_alike():
    """Those of other models in transformers, as every call is checked against the layer."""
    roberta = drawn(transformers.RobertaModel, transformers.RobertaConfig(**TEXT))
    assert_weights(read(roberta, words()), weights_of(roberta, words()))
    deit = drawn(transformers.DeiTModel, transformers.DeiTConfig(**IMAGES))
    images = {"pixel_values": torch.randn(B, 1, 8, 8)}
    assert_weights(read(deit, images), weights_of(deit, images))


@each_implementation
@pytest.mark.parametrize("bias", [True, False])
def test_vit(implementation, bias):
    model = drawn(
        transformers.ViTModel, transformers.ViTConfig(**IMAGES, qkv_bias=bias), implementation
    )
    batch = {"pixel_values": torch.randn(B, 1, 8, 8)}
    layers = read(model, batch, lambda out: out.pooler_output.sum(), positions=0)
    assert_weights(layers, weights_of(model, batch))
    assert all(layer.position.tolist() == [0] * B for layer in layers)
    assert layers[0].left.shape == (H, 4, 8 + bias)


@each_implementation
@pytest.mark.parametrize("padding", ["right", "left", "none"])
def test_gpt2(implementation, padding):
    model = drawn(
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True),
        implementation,
    )
    batch = words(padding)
    if padding == "none":
        del batch["attention_mask"]
    ids = batch["input_ids"]
    layers = read(model, {**batch, "labels": ids}, lambda out: out.loss)
    assert_weights(layers, weights_of(model, batch))
    assert (layers[0].scores[:, layers[0].position == 5].max() > -np.inf).all()


@each_implementation
def test_gpt2_with_cross_attention(implementation):
    model = drawn(
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(**GPT2, add_cross_attention=True),
        implementation,
    )
    torch.manual_seed(2)
    batch = {**words(), "encoder_hidden_states": torch.randn(B, 4, 8)}
    layers = read(model, batch)
    assert_weights(layers[::2], weights_of(model, batch))
    assert_weights(layers[1::2], weights_of(model, batch, "cross_attentions"))


def test_keys_of_a_cache_are_refused():
    model = drawn(transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT2))
    ids = words()["input_ids"]
    with torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
    with pytest.raises(NotReadableError, match=r"transformer.h.0.attn .*keys from a cache"):
        inspect(model, {"input_ids": ids[:, :1], "cache": past})


def test_rotary_positions_are_refused_by_name():
    config = transformers.LlamaConfig(**TEXT, num_key_value_heads=H)
    with pytest.raises(NotReadableError, match=r"layers.0.self_attn \(LlamaAttention\): rotary"):
        inspect(drawn(transformers.LlamaModel, config), words())


def test_scores_of_a_head_are_the_derivative_of_the_loss():
    """The loss falls by γ_it ε when ε of the weight is added on token t of a head alone."""
    model = drawn(transformers.BertModel, transformers.BertConfig(**TEXT)).eval().double()
    batch, head, token, step = words(), 1, 2, 1e-6

    def loss(out):
        return out.last_hidden_state[:, 0].pow(3).sum()

    layer = read(model, batch, loss)[0]
    module = model.encoder.layer[0].attention.self
    before = float(loss(model(**batch)).detach())
    for i in (0, 4, 9):

        def add(module, args, kwargs, output, i=i):
            value = module.value(args[0])[layer.sample[i], token].view(H, -1)[head]
            mixtures = output[0].clone()
            mixtures[layer.sample[i], layer.position[i]].view(H, -1)[head] += step * value
            return mixtures, output[1]

        handle = module.register_forward_hook(add, with_kwargs=True)
        slope = (float(loss(model(**batch)).detach()) - before) / step
        handle.remove()
        assert layer.scores[head, i, token] == pytest.approx(-slope, rel=1e-4, abs=1e-6)


def test_all_is_measured_in_a_model_of_transformers():
    model = drawn(transformers.BertModel, transformers.BertConfig(**TEXT))
    found = inspect(model, words(), lambda out: out.pooler_output.sum())
    assert dict(found.sizes) == {"layer": LAYERS, "head": H, "input": 15, "norm": 2}
    assert (found.svm_status == "optimal").all()
    assert ((found.margin_ratio > 0) & (found.margin_ratio <= 1 + 1e-9)).all()
