import torch
from open_clip import tokenize
from open_clip.model import CLIP

from clip2scene.models.clip import EMBEDDED, load_clip, save_clip
from clip2scene.models.prompts import TEMPLATES, load_text_embeddings, text_embeddings, write_text_embeddings

PROMPTS = ["traffic_cone", "car", "driveable surface"]


def teacher(folder):
    torch.manual_seed(0)
    save_clip(folder / "teacher.pt", CLIP(**EMBEDDED), "embedded", (0.5,) * 3, (0.5,) * 3)
    return folder / "teacher.pt"


def test_there_are_the_85_templates_of_the_paper():
    assert len(set(TEMPLATES)) == 85
    assert all(template.count("{}") == 1 for template in TEMPLATES)
    assert {"itap of my {}.", "a photo of a {}.", "this is one {} in the scene."} <= set(TEMPLATES)


def test_embeddings_are_the_normalised_mean_of_normalised_templates(tmp_path):
    path = teacher(tmp_path)
    embeddings = text_embeddings(path, PROMPTS)
    assert embeddings.shape == (3, 128)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    model, _ = load_clip(path)
    single = [model.encode_text(tokenize([template.format("car")], 32))[0] for template in TEMPLATES]
    mean = sum(vector / vector.norm() for vector in single)
    torch.testing.assert_close(embeddings[1], mean / mean.norm(), atol=1e-5, rtol=1e-4)


def test_embeddings_are_in_the_order_of_the_prompts_and_survive_the_file(tmp_path):
    path = teacher(tmp_path)
    write_text_embeddings(path, PROMPTS, tmp_path / "text.pt")
    assert torch.load(tmp_path / "text.pt", weights_only=True)["prompts"] == PROMPTS
    backwards = text_embeddings(path, PROMPTS[::-1])
    torch.testing.assert_close(load_text_embeddings(tmp_path / "text.pt"), backwards.flip(0))
