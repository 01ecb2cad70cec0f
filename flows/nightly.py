"""The night: collect, check the documents, generate, validate, check the training set, train, evaluate, publish.

Run it with ``retune run``, or from a Prefect deployment: ``prefect deployment run 'nightly-retraining/embedded'``.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.night import jobs
from flows.night.champion import earlier_publications, find_rival, initial_adapter
from flows.night.data_checks import require_holdout, require_trainable
from flows.night.run import night
from tasks.collect.task import collect_documents, fetch_sources
from tasks.evaluate.task import evaluate_candidate
from tasks.generate.task import generate_rows
from tasks.publish.task import publish_candidate
from tasks.train.task import train_adapter
from tasks.validate.task import check_documents, check_training_set, validate_rows


@flow(name="nightly-retraining", flow_run_name="{recipe}", persist_result=False)
def nightly_retraining(recipe: str = "embedded") -> dict[str, Any]:
    """Retrain the adapter of a recipe, and publish it if it is better.

    Args:
        recipe: a name in deployments/recipes, or the path of a recipe file.

    Returns:
        run_id and status: published, rejected or no-op.
    """
    with night(recipe) as tonight:
        plan, registry = tonight.recipe, tonight.registry
        tonight.fetch(fetch_sources, jobs.collect_job(plan, tonight.home))
        collected = tonight.collect(collect_documents, jobs.collect_job(plan, tonight.home))
        documents = tonight.stage(check_documents, jobs.documents_job(plan, collected))
        require_holdout(plan, collected, documents)
        require_trainable(plan, documents)
        generated = tonight.generate(generate_rows, jobs.generate_job(plan, documents)) if plan.generate else None
        validated = tonight.stage(validate_rows, jobs.validate_job(plan, collected, documents, generated))
        earlier = earlier_publications(registry, plan, validated)
        tonight.stage(check_training_set, jobs.training_set_job(plan, validated, earlier))
        start = initial_adapter(registry, plan, validated)
        smaller = tonight.smaller(train_adapter, jobs.smaller_train_jobs(plan, validated, start))
        trained = tonight.stage(train_adapter, jobs.train_job(plan, validated, start))
        rival = find_rival(registry, trained)
        tonight.stage(evaluate_candidate, jobs.evaluate_job(plan, documents, trained, rival, smaller))
        tonight.publish(publish_candidate, jobs.publish_job(plan, tonight.artifacts))
    return {"run_id": tonight.record.run_id, "status": tonight.record.status}
