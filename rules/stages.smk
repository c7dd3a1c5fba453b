# A rule for every registered stage. A job computes one run, or several of one method that share a process.
# It declares a receipt: Snakemake deletes what is declared before it starts a job, and runs are never deleted.


# None on a cluster, and where Snakemake computes nothing, as with --unlock and --report: `workflow.cores` would
# refuse that. A cluster's job sees its whole node, but may take what was asked for when it was submitted.
cores = None if workflow.remote_exec else workflow.resource_settings.cores
cores = cores or settings.threads
asked = planned(study)

for name, stage in study.stages.items():
    processes = settings.processes if stage.gpu else 1
    program = "clip2scene"
    if processes > 1:
        program = f"torchrun --standalone --nproc-per-node {processes} -m clip2scene"

    rule:
        name:
            name
        input:
            lambda w: study.inputs_of(w.job),
            # the parts of a run that several machines compute together
            (
                gather.superpixels("<receipts>/parts/{{job}}/{scatteritem}.json")
                if stage.parts and not settings.share_process
                else []
            ),
        output:
            "<receipts>/{job}.json",
        log:
            f"<logs>/{name}/{{job}}.log",
        benchmark:
            f"<benchmarks>/{name}/{{job}}.jsonl"
        wildcard_constraints:
            job=study.names(name),
        priority: stage.priority
        conda:
            "../environment.yml"
        threads: cores if stage.cores else settings.threads * processes
        resources:
            **asked,
            gpu=study.gpu * processes if stage.gpu else 0,
        params:
            runs=lambda w: study.keys(w.job),
            what=lambda w: study.what(w.job),
            processes=cores if stage.cores else 1,
            program=program,
            stamp=lambda w: study.stamp(w.job),
        message:
            "{params.what} (progress: {log})"
        # `exec`: a signal to all processes of a job ends a shell before the run has saved its state
        shell:
            "exec {params.program} run {params.runs:q} --receipt {output:q} --processes {params.processes}"
            " 2> {log:q}"

    if stage.parts and not settings.share_process:

        rule:
            name:
                f"{name}_part"
            input:
                lambda w: study.inputs_of(w.job),
            output:
                "<receipts>/parts/{job}/{scatteritem}.json",
            log:
                f"<logs>/{name}/{{job}}-{{scatteritem}}.log",
            benchmark:
                f"<benchmarks>/{name}/{{job}}-{{scatteritem}}.jsonl"
            wildcard_constraints:
                job=study.names(name),
            priority: stage.priority
            conda:
                "../environment.yml"
            threads: settings.threads
            resources:
                **asked,
            params:
                runs=lambda w: study.keys(w.job),
                what=lambda w: study.what(w.job),
                stamp=lambda w: study.stamp(w.job),
            message:
                "{params.what}, part {wildcards.scatteritem} (progress: {log})"
            shell:
                "clip2scene run {params.runs:q} --part {wildcards.scatteritem:q} --processes {threads}"
                " --receipt {output:q} 2> {log:q}"
